"""Makes one gRPC call of 2000 bytes with a policy that repeats it, and prints the status.

    grpc_retry.py HOST:PORT

The policy allows three attempts for RESOURCE_EXHAUSTED.
"""

import json
import sys

import grpc

POLICY = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.05s",
                "backoffMultiplier": 1,
                "retryableStatusCodes": ["RESOURCE_EXHAUSTED"],
            },
        }
    ]
}

options = [("grpc.service_config", json.dumps(POLICY))]
with grpc.insecure_channel(sys.argv[1], options) as channel:
    put = channel.unary_unary("/upload.v1.Upload/Put")
    try:
        put(bytes(2000), timeout=60)
        print("OK")
    except grpc.RpcError as error:
        print(error.code().name)
