"""Makes an authority and, from it and from another one, certificates of receivers of webhooks, in the folder given."""

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
