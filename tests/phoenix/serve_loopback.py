"""Starts Phoenix on 127.0.0.1 only. PHOENIX_HOST covers its HTTP port; the gRPC port has no setting."""

import sys

import grpc.aio._server as server

bind = server.Server.add_insecure_port
server.Server.add_insecure_port = lambda self, address: bind(self, address.replace("[::]", "127.0.0.1"))

sys.argv = ["phoenix", "serve"]
from phoenix.server.main import main  # noqa: E402

main()
