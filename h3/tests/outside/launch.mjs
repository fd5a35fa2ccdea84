// Starts browsers that speak HTTP/3 to a port of this machine.
import { join } from 'node:path';
import puppeteer from '../../../tests/browser/node_modules/puppeteer-core/lib/esm/puppeteer/puppeteer-core.js';
import { executable } from '../../../tests/browser/browser.mjs';

/**
 * Starts a browser with a new profile in `folder`. The caller closes it. `hash` is the SHA-256 of
 * the certificate's public key, in base64. If `isForced` is set, the browser uses HTTP/3 from the
 * beginning, and not only after a response over TCP with `Alt-Svc`.
 */
export function launch({ name, folder, port, hash, isForced }) {
  const common = {
    executablePath: executable(name),
    headless: true,
    acceptInsecureCerts: true,
    userDataDir: join(folder, 'profile'),
  };
  if (name === 'firefox') {
    return puppeteer.launch({
      ...common,
      browser: 'firefox',
      extraPrefsFirefox: {
        'network.http.http3.enable': true,
        'network.http.http3.disable_when_third_party_roots_found': false,
        ...(isForced && {
          'network.http.http3.alt-svc-mapping-for-testing': `localhost;h3=:${port}`,
        }),
      },
    });
  }
  return puppeteer.launch({
    ...common,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--enable-quic',
      '--host-resolver-rules=MAP localhost 127.0.0.1',
      `--ignore-certificate-errors-spki-list=${hash}`,
      // For a host that is named here, Chromium takes certificates of no public authority over QUIC.
      `--origin-to-force-quic-on=localhost:${isForced ? port : 1}`,
    ],
  });
}

/** Returns the HTTP version of the page's connection. */
export function protocol(page) {
  return page.evaluate(() => performance.getEntriesByType('navigation')[0].nextHopProtocol);
}

/** Fails if the promise takes longer. */
export function within(milliseconds, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    const seconds = milliseconds / 1000;
    timer = setTimeout(() => reject(new Error(`nothing after ${seconds} s`)), milliseconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
