"""Calls the gRPC upload again and again over one channel, and says what each call got.

    grpc_upload.py HOST:PORT SIZE...

Prints a line for each size: the total that the server has counted, or the status's
code and message. By grpcio, without generated code: of the two messages, each has one
field, and that has the number 1.
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
    # The first byte is the field's tag. A zero is left out, and so is its tag.
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
