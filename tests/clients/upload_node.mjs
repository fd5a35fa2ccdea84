// The clients that Node has: http, http2 and fetch. Each returns the status, the version and the
// text of the response.

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

/** The bytes of one write. */
const PIECE = 64 * 1024;

/** Accepts any certificate. */
export const ANYONE = { rejectUnauthorized: false };

/** Returns the body and its headers, for clients that make no forms. */
export function encoded(shape, content) {
  const body = shape === "form" ? Buffer.concat([HEAD, content, TAIL]) : content;
  const type = shape === "form" ? `multipart/form-data; boundary=${BOUNDARY}` : "application/octet-stream";
  return [body, { "content-type": type, "content-length": body.length }];
}

export async function byHttp(shape, url, content) {
  const [body, headers] = encoded(shape, content);
  const { request } = url.startsWith("https:") ? https : http;
  return new Promise((resolve, reject) => {
    const sent = request(url, { method: "POST", headers, ...ANYONE }, (response) => {
      textOf(response).then((text) => resolve([response.statusCode, response.httpVersion, text]), reject);
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

/** Sends in pieces, because a stream's window is smaller than the file. */
export async function byHttp2(shape, url, content) {
  const [body, headers] = encoded(shape, content);
  return new Promise((resolve, reject) => {
    const session = http2.connect(url, ANYONE);
    session.on("error", reject);
    const path = new URL(url).pathname;
    const sent = session.request({ ":method": "POST", ":path": path, ...headers });
    let status;
    let text = "";
    sent.setEncoding("utf8");
    sent.on("response", (head) => (status = head[":status"]));
    sent.on("data", (part) => (text += part));
    sent.on("end", () => (status ? resolve([status, "2", text]) : reject(new Error("no response"))));
    sent.on("error", reject);
    Readable.from(pieces(body)).pipe(sent);
  });
}

export async function byFetch(shape, url, content) {
  const response = await fetch(url, { method: "POST", body: formOr(shape, content) });
  return [response.status, "1.1", await response.text()];
}

/** Returns a form with the content, or the content. */
export function formOr(shape, content) {
  if (shape !== "form") return content;
  const form = new FormData();
  form.set("photopicker", new Blob([content]), "a.bin");
  return form;
}

function* pieces(content) {
  for (let at = 0; at < content.length; at += PIECE) yield content.subarray(at, at + PIECE);
}

/** Returns the text of a response whose status has arrived. */
async function textOf(response) {
  let text = "";
  response.setEncoding("utf8");
  for await (const part of response) text += part;
  return text;
}
