// The clients that npm has. `NODE_PATH` names the folder of the packages. Each returns the status,
// the version and the text of the response.

import { createRequire } from "node:module";
import { ANYONE, encoded, formOr } from "./upload_node.mjs";

const require = createRequire(import.meta.url);

export async function byUndici(shape, url, content) {
  return undici(shape, url, content, "1.1", {});
}

export async function byUndiciOverHttp2(shape, url, content) {
  return undici(shape, url, content, "2", { allowH2: true });
}

async function undici(shape, url, content, version, options) {
  const { Agent, FormData, fetch } = require("undici");
  let body = content;
  if (shape === "form") {
    // The form has to be of the same undici as `fetch`.
    body = new FormData();
    body.set("photopicker", new Blob([content]), "a.bin");
  }
  const dispatcher = new Agent({ ...options, connect: ANYONE });
  const response = await fetch(url, { method: "POST", body, dispatcher });
  return [response.status, version, await response.text()];
}

export async function byAxios(shape, url, content) {
  const { default: axios } = require("axios");
  const { Agent } = require("node:https");
  const response = await axios.post(url, formOr(shape, content), {
    adapter: "http",
    headers: shape === "form" ? {} : { "content-type": "application/octet-stream" },
    httpsAgent: new Agent(ANYONE),
    responseType: "text",
    // axios takes a status above 300 for an error otherwise.
    validateStatus: () => true,
    maxBodyLength: Infinity,
    maxRedirects: 0,
  });
  return [response.status, "1.1", response.data];
}

export async function byGot(shape, url, content) {
  return got(shape, url, content, "1.1", {});
}

export async function byGotOverHttp2(shape, url, content) {
  return got(shape, url, content, "2", { http2: true });
}

async function got(shape, url, content, version, options) {
  const { default: client } = require("got");
  const response = await client.post(url, {
    ...options,
    body: formOr(shape, content),
    https: ANYONE,
    throwHttpErrors: false,
    retry: { limit: 0 },
  });
  return [response.statusCode, version, response.body];
}

export async function byFetchH2(shape, url, content) {
  const { context } = require("fetch-h2");
  const { fetch } = context({ session: ANYONE, httpsProtocols: ["http2"] });
  const [body, { "content-type": type }] = encoded(shape, content);
  const response = await fetch(url, { method: "POST", body, headers: { "content-type": type } });
  return [response.status, `${response.httpVersion}`, await response.text()];
}
