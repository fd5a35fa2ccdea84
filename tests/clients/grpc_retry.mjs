// Makes one gRPC call of 2000 bytes with a policy that repeats it, and prints the status.
//
//     node grpc_retry.mjs HOST:PORT
//
// The policy allows three attempts for RESOURCE_EXHAUSTED. The library is among the packages of
// the browser tests.

import { createRequire } from "node:module";

const require = createRequire(new URL("../browser/package.json", import.meta.url));
const { Client, credentials, status } = require("@grpc/grpc-js");

const POLICY = {
  methodConfig: [
    {
      name: [{}],
      retryPolicy: {
        maxAttempts: 3,
        initialBackoff: "0.05s",
        maxBackoff: "0.05s",
        backoffMultiplier: 1,
        retryableStatusCodes: ["RESOURCE_EXHAUSTED"],
      },
    },
  ],
};

const client = new Client(process.argv[2], credentials.createInsecure(), {
  "grpc.service_config": JSON.stringify(POLICY),
});
const same = (message) => message;
const deadline = Date.now() + 60_000;
client.makeUnaryRequest("/upload.v1.Upload/Put", same, same, Buffer.alloc(2000), { deadline }, (error) => {
  console.log(error ? status[error.code] : "OK");
  client.close();
});
