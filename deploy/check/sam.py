"""Transforms a SAM template as CloudFormation does, which finds references that do not exist.

usage: sam.py TEMPLATE
"""

import json
import os
import sys

from cfnlint.decode import cfn_yaml
from samtranslator.model.exceptions import InvalidDocumentException
from samtranslator.translator.transform import transform


class NoManagedPolicies:
    def load(self):
        return {}


def main():
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    template = json.loads(json.dumps(cfn_yaml.load(sys.argv[1])))
    try:
        resources = transform(template, {"ImageUri": "image"}, NoManagedPolicies())["Resources"]
    except InvalidDocumentException as error:
        sys.exit("\n".join(cause.message for cause in error.causes))
    for name, resource in resources.items():
        print(f"{resource['Type']} {name}")


main()
