"""Calls the gRPC upload repeatedly over one channel, and prints the result of each call.

    grpc_upload.py HOST:PORT SIZE...

Prints a line for each size: the total that the server has counted, or the code and message
of the status. Uses grpcio without generated code: both messages have a single field, whose
number is 1.
"""

import sys

import grpc

MESSAGE = 64 * 1024


def varint(number):
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def bytes_value(content):
    """google.protobuf.BytesValue"""
    return b"\x0a" + varint(len(content)) + content


def uint64_value(encoded):
    """google.protobuf.UInt64Value"""
    number = 0
    # The first byte is the field's tag. A zero is left out, together with its tag.
    for place, byte in enumerate(encoded[1:]):
        number |= (byte & 0x7F) << 7 * place
    return number


def messages(size):
    zeros = bytes(MESSAGE)
    for sent in range(0, size, MESSAGE):
        yield zeros[: size - sent]


address, *sizes = sys.argv[1:]
with grpc.insecure_channel(address) as channel:
    put = channel.stream_unary(
        "/upload.v1.Upload/Put",
        request_serializer=bytes_value,
        response_deserializer=uint64_value,
    )
    for size in map(int, sizes):
        try:
            print(put(messages(size), timeout=60))
        except grpc.RpcError as error:
            print(error.code().name, error.details())
