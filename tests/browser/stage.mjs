import { createHash, randomFillSync } from 'node:crypto';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { launch } from './browser.mjs';
import { startGate } from './gate.mjs';

/** The time limit of one step, in milliseconds. */
const STEP = 30_000;

/** The environment of a scenario: a browser, its pages and the files to upload. */
export class Stage {
  #options;
  #page = null;
  #closing = [];

  constructor(options) {
    this.#options = options;
  }

  get url() {
    return this.#options.url;
  }

  get plain() {
    if (!this.#options.plain) throw new Error('this scenario needs --plain URL');
    return this.#options.plain;
  }

  get browser() {
    return this.#options.browser;
  }

  get shots() {
    if (!this.#options.shots) throw new Error('this scenario needs --shots DIR');
    return this.#options.shots;
  }

  /** Opens a page in a new browser. Without `script`, none of the page's JavaScript runs. */
  async open({ url = this.url, theme = 'light', script = true } = {}) {
    const { browser: name, folder } = this.#options;
    const profile = await mkdtemp(join(folder, 'profile-'));
    const browser = await launch(name, profile, theme);
    this.#closing.push(() => browser.close());
    const page = await browser.newPage();
    page.setDefaultTimeout(STEP);
    page.uploads = 0;
    page.on('request', (request) => {
      if (request.method() === 'POST') page.uploads += 1;
    });
    this.#page = page;
    if (script) await page.goto(url);
    else if (name === 'chromium') await openWithoutScripts(page, url);
    else await openWithoutScriptFiles(page, url);
    equal('the protocol', await protocol(page), url.startsWith('https:') ? 'h2' : 'http/1.1');
    return page;
  }

  /** Slows uploads to 1 MB/s, so that progress is visible. */
  async slowDown(page) {
    // Firefox has no such command, but it was started with a small send buffer.
    if (this.#options.browser === 'chromium') {
      await page.emulateNetworkConditions({ upload: 1_000_000, download: -1, latency: 0 });
    }
  }

  async gate() {
    const gate = await startGate(this.url);
    this.#closing.push(() => gate.close());
    return gate;
  }

  /** Creates a file of random bytes. Also returns the hash that the server must compute. */
  async file(size, name = `${size}.bin`) {
    const bytes = randomFillSync(Buffer.alloc(size));
    const path = join(this.#options.folder, name);
    await writeFile(path, bytes);
    return { path, name, size, hash: createHash('sha256').update(bytes).digest('hex') };
  }

  /** Returns the text of the page, to explain a failure. */
  async seen() {
    try {
      return await this.#page?.evaluate(() => document.body.innerText);
    } catch (error) {
      return `(cannot be read: ${error.message})`;
    }
  }

  async close() {
    for (const close of this.#closing.reverse()) {
      await close().catch((error) => console.error(`while closing: ${error.message}`));
    }
  }
}

/** Returns the HTTP version of the page's connection. */
function protocol(page) {
  return page.evaluate(() => performance.getEntriesByType('navigation')[0].nextHopProtocol);
}

async function openWithoutScripts(page, url) {
  await page.setJavaScriptEnabled(false);
  await page.goto(url);
}

/** Blocks script files: Firefox can no longer be driven once scripts are disabled. */
async function openWithoutScriptFiles(page, url) {
  await page.setRequestInterception(true);
  const block = (request) => (request.url().endsWith('.js') ? request.abort() : request.continue());
  page.on('request', block);
  await page.goto(url);
  page.off('request', block);
  await page.setRequestInterception(false);
}

/** Throws an error with both values unless they are equal. */
export function equal(what, seen, expected) {
  if (seen !== expected) {
    throw new Error(`${what}\n  expected: ${JSON.stringify(expected)}\n  seen:     ${JSON.stringify(seen)}`);
  }
}

/** Throws an error with the text unless it contains the part. */
export function contains(what, seen, part) {
  if (!seen.includes(part)) {
    throw new Error(`${what}\n  expected to contain: ${JSON.stringify(part)}\n  seen: ${JSON.stringify(seen)}`);
  }
}
