"""Writes a certificate authority, and receivers' certificates from it and from an unknown one, to the given folder."""

import pathlib
import sys

import trustme

folder = pathlib.Path(sys.argv[1])
authority, stranger = trustme.CA(), trustme.CA()
authority.cert_pem.write_to_path(folder / "authority.pem")
for name, issuer, identity in [
    ("trusted", authority, "127.0.0.2"),
    ("unknown", stranger, "127.0.0.2"),
    ("misnamed", authority, "hooks.example.com"),
]:
    issuer.issue_cert(identity).private_key_and_cert_chain_pem.write_to_path(folder / f"{name}.pem")
