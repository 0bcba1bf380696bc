"""Moving labels in steps that no server refuses for ever. Imports `server`, `tree`, `trust`.

TF Serving checks the labels of a config before it loads anything. If a label that the server
already has moves to a version that is not AVAILABLE, the server refuses the whole config
(`UpdateModelVersionLabelMap` of its `server_core.cc`). A server that polls the file then refuses it
every time, never loads the version, and never changes again.

    history   the files that polling servers can have, and the label moves that they would refuse
    labels    the changes of a config by promote, rollback and label
    servers   reloading the config of running servers
    edit      the commands: all of this, under a lock
"""
