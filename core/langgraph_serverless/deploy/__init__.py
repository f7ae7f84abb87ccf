"""Takes what was built to an AWS account: the SAM CLI for the stack, boto3 for what happens around it.

``stack_folder.py`` puts the templates beside the bundles, ``parameters.py`` says which values they get, ``sam.py`` runs the SAM CLI,
``account.py`` asks and changes the account itself. ``cli/deploy.py`` has the order. Nothing here runs in a function.
"""
