"""Signed versions: who published a version, and that it is unchanged. Imports `hub` and `tree`.

keys        keys in PEM, and the file that says whose signatures a tree has
signature   a version's signature, in the format of OpenSSF Model Signing
sign        the command: signing versions that are published
check       refusing versions and archives of a disk that are not signed
flags       what the commands that sign and check have in common
sbom        the software that made a version
"""
