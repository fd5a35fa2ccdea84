// Uploads over HTTP/3 with a real browser, and prints what it saw:
//
//   node browser.mjs BROWSER PORT HASH SECONDS SCENARIO...
//
// HASH is the SHA-256 of the certificate's public key, in base64. Prints a line for each scenario:
// its name, and "ok" or the reason. SECONDS is the time limit of each. Exits with 1 if the browser
// cannot be driven.
import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { launch, protocol, within } from './launch.mjs';

const [name, port, hash, seconds, ...scenarios] = process.argv.slice(2);
const url = `https://localhost:${port}`;

/** The time limit of what is no promise of the server's, such as the start of the browser. */
const PATIENCE = 60_000;

/** Sends a body by a script in the page. Returns the status, the protocol and the text. */
const BY_SCRIPT = {
  fetch: (page, path, size) =>
    page.evaluate(
      async (path, size) => {
        const response = await fetch(path, { method: 'POST', body: new Uint8Array(size) });
        return [response.status, await response.text()];
      },
      path,
      size,
    ),
  xhr: (page, path, size) =>
    page.evaluate(
      (path, size) =>
        new Promise((resolve, reject) => {
          const request = new XMLHttpRequest();
          request.open('POST', path);
          request.onload = () => resolve([request.status, request.responseText]);
          request.onerror = () => reject(new Error('the request failed'));
          request.send(new Uint8Array(size));
        }),
      path,
      size,
    ),
  /** The length is not declared. */
  stream: (page, path, size) =>
    page.evaluate(
      async (path, size) => {
        const body = new Blob([new Uint8Array(size)]).stream();
        const response = await fetch(path, { method: 'POST', body, duplex: 'half' });
        return [response.status, await response.text()];
      },
      path,
      size,
    ),
  form: byForm,
};

/** The uploads of a scenario with several of them: the paths, the sizes and the statuses. */
const SEVERAL = {
  twenty: [
    ['/', 5_000_000, 413],
    ['/', 3_000_000, 200],
    ['/private', 5_000_000, 401],
    ['/', 3_000, 200],
  ],
  ten: [
    ['/', 5_000_000, 413],
    ['/', 3_000_000, 200],
  ],
};

/** Sends five times these uploads, one after the other or all at once. Returns what was wrong. */
function bySeveral(page, uploads, isAtOnce) {
  return page.evaluate(
    async (uploads, isAtOnce) => {
      const send = async ([path, size, status]) => {
        const response = await fetch(path, { method: 'POST', body: new Uint8Array(size) });
        await response.text();
        return response.status === status ? [] : `${path}: ${response.status} and not ${status}`;
      };
      const all = Array(5).fill(uploads).flat();
      if (isAtOnce) return (await Promise.all(all.map(send))).flat();
      const wrong = [];
      for (const upload of all) wrong.push(await send(upload));
      return wrong.flat();
    },
    uploads,
    isAtOnce,
  );
}

/** Sends a file by a form, and returns what the page shows then. */
async function byForm(page, path, size) {
  const file = join(folder, `${size}.bin`);
  await writeFile(file, Buffer.alloc(size));
  await page.evaluate((path) => {
    document.body.innerHTML =
      `<form method=post enctype=multipart/form-data action="${path}"><input type=file name=file></form>`;
  }, path);
  const input = await page.$('input');
  await input.uploadFile(file);
  const navigated = page.waitForNavigation({ timeout: 1000 * seconds });
  await page.evaluate(() => document.querySelector('form').submit());
  await navigated;
  return page.evaluate(() => [
    performance.getEntriesByType('navigation')[0].responseStatus,
    document.body.innerText,
  ]);
}

/** The responses by the first word of a scenario: the path, the status, and what the text is. */
const EXPECTED = {
  413: ['/', 413, /too large/i],
  401: ['/private', 401, /^no token$/],
  404: ['/nothing', 404, /^$|not be found|HTTP ERROR 404/],
  accepted: ['/', 200, /^[0-9a-f]{64}$/],
};

/** The SHA-256 of the body that a script sends. A form adds lines of its own to the body. */
const hashOf = (size) => createHash('sha256').update(Buffer.alloc(size)).digest('hex');

const SIZES = { '3kB': 3_000, '60kB': 60_000, '3MB': 3_000_000, '20MB': 20_000_000 };

/** The page of the scenario before, if it went well. A new one takes longer than most scenarios. */
let kept;

const folder = await mkdtemp(join(tmpdir(), 'h3-browser-'));
const browser = await launch({ name, folder, port, hash, isForced: true });
try {
  for (const scenario of scenarios) {
    console.log(`${scenario} ${await play(scenario)}`);
  }
} finally {
  await browser.close().catch(() => {});
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
}

async function play(scenario) {
  const [kind, way, size] = scenario.split('_');
  const page = kept ?? (await browser.newPage());
  page.setDefaultTimeout(PATIENCE);
  kept = undefined;
  const seen = await playOn(page, kind, way, size);
  if (seen === 'ok') kept = page;
  else await within(5_000, page.close()).catch(() => {});
  return seen;
}

async function playOn(page, kind, way, size) {
  try {
    await within(PATIENCE, page.goto(url));
    const version = await protocol(page);
    if (version !== 'h3') return `over ${version}`;
    if (kind === 'get') {
      const text = await page.evaluate(() => document.body.innerText);
      return text === 'hello' ? 'ok' : `shows ${text}`;
    }
    if (kind in SEVERAL) {
      const several = bySeveral(page, SEVERAL[kind], kind === 'ten');
      const wrong = await within(1000 * seconds, several);
      return wrong.join(', ') || 'ok';
    }
    const [path, expected, text] = EXPECTED[kind];
    const [status, seen] = await within(1000 * seconds, BY_SCRIPT[way](page, path, SIZES[size]));
    if (status !== expected) return `status ${status}`;
    if (kind === 'accepted' && way !== 'form' && seen !== hashOf(SIZES[size])) return 'another hash';
    return text.test(seen) ? 'ok' : `shows ${seen.slice(0, 100)}`;
  } catch (error) {
    return String(error.message ?? error).split('\n')[0];
  }
}
