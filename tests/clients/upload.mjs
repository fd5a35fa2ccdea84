// Uploads a file and says what came back.
//
//     node upload.mjs http|fetch form|raw URL FILE
//
// Prints the status in the first line and the body after it, exits with 0 when a
// whole response was read, and with 1 and the error when not.

import { readFile } from "node:fs/promises";
import { request } from "node:http";

const BOUNDARY = "a-boundary-that-is-in-no-file";

function multipart(content) {
  const head =
    `--${BOUNDARY}\r\n` +
    'Content-Disposition: form-data; name="photopicker"; filename="a.bin"\r\n' +
    "Content-Type: application/octet-stream\r\n\r\n";
  return Buffer.concat([Buffer.from(head), content, Buffer.from(`\r\n--${BOUNDARY}--\r\n`)]);
}

function byHttp(shape, url, content) {
  const body = shape === "form" ? multipart(content) : content;
  const type =
    shape === "form" ? `multipart/form-data; boundary=${BOUNDARY}` : "application/octet-stream";
  return new Promise((resolve, reject) => {
    const headers = { "Content-Type": type, "Content-Length": body.length };
    const sent = request(url, { method: "POST", headers }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (part) => (text += part));
      response.on("end", () => resolve([response.statusCode, text]));
      response.on("error", reject);
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

async function byFetch(shape, url, content) {
  let body = content;
  if (shape === "form") {
    body = new FormData();
    body.set("photopicker", new Blob([content]), "a.bin");
  }
  const response = await fetch(url, { method: "POST", body });
  return [response.status, await response.text()];
}

const [client, shape, url, file] = process.argv.slice(2);
const upload = { http: byHttp, fetch: byFetch }[client];
try {
  const [status, body] = await upload(shape, url, await readFile(file));
  console.log(status);
  console.log(body);
  // A connection kept alive is no reason to stay.
  process.exit(0);
} catch (error) {
  console.error(error.cause ?? error);
  process.exit(1);
}
