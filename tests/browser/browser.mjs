import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import puppeteer from 'puppeteer-core';

/** How each browser is found: by its own variable, or by the usual names on PATH. */
const BROWSERS = {
  chromium: { variable: 'CHROMIUM', names: ['chromium', 'chromium-browser', 'google-chrome'] },
  firefox: { variable: 'FIREFOX', names: ['firefox-esr', 'firefox'] },
};

export const names = Object.keys(BROWSERS);

/**
 * Starts a browser with a fresh profile in `folder`. The caller closes it.
 * The theme is `light` or `dark`. The send buffer is Firefox's, in bytes; 0 is the system's.
 */
export function launch(name, folder, theme, sendBuffer = 64 * 1024) {
  const common = {
    executablePath: executable(name),
    headless: true,
    // The form's certificate is self-signed.
    acceptInsecureCerts: true,
    defaultViewport: { width: 1000, height: 760 },
    userDataDir: folder,
  };
  if (name === 'firefox') {
    return puppeteer.launch({
      ...common,
      browser: 'firefox',
      extraPrefsFirefox: {
        // The theme as web pages see it. Firefox has no WebDriver command for it.
        'layout.css.prefers-color-scheme.content-override': theme === 'dark' ? 0 : 1,
        // A small send buffer: progress counts bytes that the kernel has taken, which would
        // otherwise be 3 MB immediately.
        'network.tcp.sendbuffer': sendBuffer,
      },
    });
  }
  return puppeteer.launch({
    ...common,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      ...(theme === 'dark' ? ['--force-dark-mode'] : []),
    ],
  });
}

export function executable(name) {
  const { variable, names } = BROWSERS[name];
  if (process.env[variable]) return process.env[variable];
  const folders = (process.env.PATH ?? '').split(delimiter);
  const found = names.flatMap((file) => folders.map((folder) => join(folder, file))).find(isExecutable);
  if (!found) throw new Error(`no ${name} on PATH (looked for ${names.join(', ')}); install it, or name it in ${variable}`);
  return found;
}

function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
