// Makes one gRPC upload, and prints the result: the total that the server has counted, or the code
// and the message of the status.
//
//     node grpc_upload.mjs HOST:PORT SIZE
//
// Uses grpc-js without generated code: both messages have a single field, whose number is 1. The
// library is among the packages of the browser tests.

import { createRequire } from "node:module";

const require = createRequire(new URL("../browser/package.json", import.meta.url));
const { Client, credentials, status } = require("@grpc/grpc-js");

/** google.protobuf.BytesValue, of 64 KiB */
const MESSAGE = Buffer.concat([Buffer.from([0x0a, 0x80, 0x80, 0x04]), Buffer.alloc(64 * 1024)]);

const [address, size] = process.argv.slice(2);
const client = new Client(address, credentials.createInsecure());
const same = (message) => message;
const deadline = Date.now() + 120_000;
const call = client.makeClientStreamRequest("/upload.v1.Upload/Put", same, same, { deadline }, (error, total) => {
  console.log(error ? `${status[error.code]} ${error.details}` : total.toString("hex"));
  // Messages that are still to be sent would keep the process running.
  process.exit(0);
});

let left = Math.ceil(size / (64 * 1024));
function send() {
  while (left > 0) {
    left -= 1;
    if (!call.write(MESSAGE)) return;
  }
  call.end();
}
call.on("drain", send);
send();
