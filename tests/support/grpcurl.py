"""What the pages ask of grpcurl, by the same means: the messages are learnt from the server.

    python grpcurl.py -plaintext [-d @] HOST:PORT SERVICE/METHOD

Nothing of ours and no generated code is imported, so what is not in the server's reflection is
not known here. The request is read as JSON from the standard input, or is empty.
"""

import argparse
import sys

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha import proto_reflection_descriptor_database


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("-plaintext", action="store_true", required=True)
    parser.add_argument("-d", choices=["@"])
    parser.add_argument("address")
    parser.add_argument("method")
    arguments = parser.parse_args()
    name, _, called = arguments.method.partition("/")
    with grpc.insecure_channel(arguments.address) as channel:
        database = proto_reflection_descriptor_database.ProtoReflectionDescriptorDatabase(channel)
        pool = descriptor_pool.DescriptorPool(database)
        method = pool.FindServiceByName(name).methods_by_name[called]
        request = message_factory.GetMessageClass(method.input_type)()
        if arguments.d:
            json_format.Parse(sys.stdin.read(), request, descriptor_pool=pool)
        call = channel.unary_unary(
            f"/{arguments.method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )
        reply = call(request, timeout=60)
    print(json_format.MessageToJson(reply, descriptor_pool=pool))


if __name__ == "__main__":
    main()
