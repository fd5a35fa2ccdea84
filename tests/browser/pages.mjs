// Uploads a file from one headless browser a number of times, each time from a fresh profile. Prints
// a line for each try: the status and the protocol, and the text of the response, or the error.
//
//     node pages.mjs --url https://127.0.0.1:3000/raw --browser firefox --file 20MB --tries 5
//
// `--way` is `form`, a plain HTML form whose following page is the response; `xhr` or `fetch`, from a
// script; or `grpc-web`, a call by `fetch`, whose status is a name. Except for the latter, the server
// must respond to GET `/` with a page.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { launch } from './browser.mjs';

/** The time limit for the upload and its response, in milliseconds. */
const TIME_LIMIT = 60_000;

/** A small one would limit the rate on a slow path. */
const SEND_BUFFER = 0;

const { values } = parseArgs({
  options: {
    url: { type: 'string' },
    browser: { type: 'string' },
    file: { type: 'string' },
    way: { type: 'string', default: 'form' },
    tries: { type: 'string', default: '1' },
  },
});
const ways = { form: byForm, xhr: (page) => byScript(page, inXhr), fetch: (page) => byScript(page, inFetch), 'grpc-web': byGrpcWeb };
const folder = await mkdtemp(join(tmpdir(), 'pages-'));
const browser = await launch(values.browser, join(folder, 'profile'), 'light', SEND_BUFFER);
try {
  for (let i = 0; i < Number(values.tries); i += 1) console.log(await upload());
} finally {
  await browser.close();
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
}

/** Returns the line of one try. Contexts do not share connections. */
async function upload() {
  const context = await browser.createBrowserContext();
  try {
    const page = await context.newPage();
    page.setDefaultTimeout(TIME_LIMIT);
    const { status, protocol, text } = await ways[values.way](page);
    return `${status} over ${protocol}: ${text}`.replaceAll(/\s+/g, ' ');
  } catch (error) {
    return `lost: ${error.message}`.replaceAll(/\s+/g, ' ');
  } finally {
    await context.close();
  }
}

async function byForm(page) {
  await choose(page);
  const failed = new Promise((_, reject) => {
    // Firefox shows an error page then, which is no navigation for the driver.
    page.on('requestfailed', (request) => {
      if (request.method() === 'POST') reject(new Error(request.failure()?.errorText ?? 'the request failed'));
    });
  });
  await Promise.race([failed, Promise.all([page.waitForNavigation(), page.click('button')])]);
  const seen = await page.evaluate(() => {
    const [{ responseStatus, nextHopProtocol }] = performance.getEntriesByType('navigation');
    return { url: location.href, status: responseStatus, protocol: nextHopProtocol, text: document.body.innerText };
  });
  if (seen.url !== values.url) throw new Error(`the page is ${seen.url}`);
  return seen;
}

async function byScript(page, send) {
  const input = await choose(page);
  return input.evaluate(send, values.url, TIME_LIMIT);
}

/** Opens the form's page, replaces it with a form, and chooses the file. */
async function choose(page) {
  await page.goto(new URL('/', values.url).href);
  await page.setContent(`<form method="post" action="${new URL(values.url).pathname}" enctype="multipart/form-data">
    <input type="file" name="photopicker"><button>Send</button></form>`);
  const input = await page.$('input');
  await input.uploadFile(values.file);
  return input;
}

/** Runs in the page. */
function inXhr(input, url, patience) {
  const request = new XMLHttpRequest();
  return new Promise((resolve, reject) => {
    request.open('POST', url);
    request.timeout = patience;
    request.onload = () => {
      const entry = performance.getEntriesByName(url).at(-1);
      resolve({ status: request.status, protocol: entry?.nextHopProtocol, text: request.responseText });
    };
    request.onerror = () => reject(new Error('XMLHttpRequest: error'));
    request.ontimeout = () => reject(new Error('XMLHttpRequest: timeout'));
    request.send(input.files[0]);
  });
}

/** Runs in the page. */
async function inFetch(input, url, patience) {
  const body = input.files[0];
  const response = await fetch(url, { method: 'POST', body, signal: AbortSignal.timeout(patience) });
  const text = await response.text();
  const entry = performance.getEntriesByName(url).at(-1);
  return { status: response.status, protocol: entry?.nextHopProtocol, text };
}

/** Calls from a page of another origin. */
async function byGrpcWeb(page) {
  const url = new URL('/upload.v1.Upload/Put', values.url).href;
  return page.evaluate(inGrpcWeb, url, TIME_LIMIT);
}

/** Runs in the page. Sends 20 MB in messages of 64 KiB. */
async function inGrpcWeb(url, patience) {
  // A frame of gRPC-Web: no flags, and the length of the message. The message is a
  // google.protobuf.BytesValue.
  const head = new Uint8Array([0, 0, 1, 0, 4, 0x0a, 0x80, 0x80, 0x04]);
  const frame = new Blob([head, new Uint8Array(64 * 1024)]);
  const body = new Blob(Array(306).fill(frame));
  const headers = { 'content-type': 'application/grpc-web+proto', 'x-grpc-web': '1' };
  const response = await fetch(url, { method: 'POST', headers, body, signal: AbortSignal.timeout(patience) });
  // The status is in a header, or in the last frame of the body.
  const text = `grpc-status:${response.headers.get('grpc-status')} ${response.headers.get('grpc-message')} ${await response.text()}`;
  const [, code] = text.match(/grpc-status:\s*(\d+)/) ?? [];
  return { status: code === '8' ? 'RESOURCE_EXHAUSTED' : `gRPC ${code}`, protocol: 'http/1.1', text: decodeURIComponent(text) };
}
