"""Moving labels from version to version, in steps that no server refuses for ever.

TF Serving checks the labels of a config before it loads anything. A label that the server has
already may not move to a version that is not AVAILABLE: the server refuses the whole config then
(`UpdateModelVersionLabelMap` of its `server_core.cc`). One that reads a file again and again
refuses it every time, never loads the version, and stays as it is for ever.

    history   what servers that read the file can have taken so far, and what they would refuse
    labels    what promote, rollback and label make of a config
    servers   handing a config to running servers
    edit      the commands: all of it together, under a lock
"""
