// Uploads a file and prints the response.
//
//     node upload.mjs http|http2|fetch form|raw URL FILE
//     NODE_PATH=node_modules node upload.mjs undici|undici-h2|axios|got|got-h2|fetch-h2 form|raw URL FILE
//
// The clients of the first line are Node's own.
//
// Prints the status and the version in the first line, and the body after it. Exits with 0 if a
// whole response was read, otherwise with 1 and the error.

import { readFile } from "node:fs/promises";
import * as packages from "./upload_packages.mjs";
import { byFetch, byHttp, byHttp2 } from "./upload_node.mjs";

const CLIENTS = {
  http: byHttp,
  http2: byHttp2,
  fetch: byFetch,
  undici: packages.byUndici,
  "undici-h2": packages.byUndiciOverHttp2,
  axios: packages.byAxios,
  got: packages.byGot,
  "got-h2": packages.byGotOverHttp2,
  "fetch-h2": packages.byFetchH2,
};

const [client, shape, url, file] = process.argv.slice(2);
try {
  const [status, version, body] = await CLIENTS[client](shape, url, await readFile(file));
  console.log(`${status} over HTTP/${version}`);
  console.log(body);
  // A kept connection would keep the process running.
  process.exit(0);
} catch (error) {
  console.error(error.cause ?? error);
  process.exit(1);
}
