// Uploads a file and prints the response.
//
//     node upload.mjs http|http2|fetch form|raw URL FILE
//
// Prints the status in the first line, with the version if it is HTTP/2, and the body after it.
// Exits with 0 if a whole response was read, otherwise with 1 and the error.

import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import * as http from "node:http";
import * as http2 from "node:http2";
import * as https from "node:https";
import { Readable } from "node:stream";

const BOUNDARY = "a-boundary-that-is-in-no-file";
const HEAD = Buffer.from(
  `--${BOUNDARY}\r\n` +
    'Content-Disposition: form-data; name="photopicker"; filename="a.bin"\r\n' +
    "Content-Type: application/octet-stream\r\n\r\n",
);
const TAIL = Buffer.from(`\r\n--${BOUNDARY}--\r\n`);

/** Accepts any certificate. */
const ANYONE = { rejectUnauthorized: false };

function typeOf(shape) {
  return shape === "form" ? `multipart/form-data; boundary=${BOUNDARY}` : "application/octet-stream";
}

/** Returns the text of a response whose status has arrived. */
async function textOf(response) {
  let text = "";
  response.setEncoding("utf8");
  for await (const part of response) text += part;
  return text;
}

async function byHttp(shape, url, file) {
  const content = await readFile(file);
  const body = shape === "form" ? Buffer.concat([HEAD, content, TAIL]) : content;
  const { request } = url.startsWith("https:") ? https : http;
  return new Promise((resolve, reject) => {
    const headers = { "Content-Type": typeOf(shape), "Content-Length": body.length };
    const sent = request(url, { method: "POST", headers, ...ANYONE }, (response) => {
      textOf(response).then((text) => resolve([response.statusCode, text]), reject);
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

/** Reads the file while sending it, because a stream's window is smaller than the file. */
async function byHttp2(shape, url, file) {
  const [head, tail] = shape === "form" ? [HEAD, TAIL] : [Buffer.alloc(0), Buffer.alloc(0)];
  async function* body() {
    yield head;
    yield* createReadStream(file);
    yield tail;
  }
  const length = head.length + (await stat(file)).size + tail.length;
  return new Promise((resolve, reject) => {
    const session = http2.connect(url, ANYONE);
    session.on("error", reject);
    const sent = session.request({
      ":method": "POST",
      ":path": new URL(url).pathname,
      "content-type": typeOf(shape),
      "content-length": length,
    });
    let status;
    let text = "";
    sent.setEncoding("utf8");
    sent.on("response", (headers) => (status = `${headers[":status"]} over HTTP/2`));
    sent.on("data", (part) => (text += part));
    sent.on("end", () => (status ? resolve([status, text]) : reject(new Error("no response"))));
    sent.on("error", reject);
    Readable.from(body()).pipe(sent);
  });
}

async function byFetch(shape, url, file) {
  let body = await readFile(file);
  if (shape === "form") {
    const content = new Blob([body]);
    body = new FormData();
    body.set("photopicker", content, "a.bin");
  }
  const response = await fetch(url, { method: "POST", body });
  return [response.status, await response.text()];
}

const [client, shape, url, file] = process.argv.slice(2);
const upload = { http: byHttp, http2: byHttp2, fetch: byFetch }[client];
try {
  const [status, body] = await upload(shape, url, file);
  console.log(status);
  console.log(body);
  // A kept connection would keep the process running.
  process.exit(0);
} catch (error) {
  console.error(error.cause ?? error);
  process.exit(1);
}
