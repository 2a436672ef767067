"""Starts Phoenix on 127.0.0.1 alone: PHOENIX_HOST covers only its HTTP port, and the gRPC one has no setting."""

import sys

import grpc.aio._server as server

bind = server.Server.add_insecure_port
server.Server.add_insecure_port = lambda self, address: bind(self, address.replace("[::]", "127.0.0.1"))

sys.argv = ["phoenix", "serve"]
from phoenix.server.main import main  # noqa: E402

main()
