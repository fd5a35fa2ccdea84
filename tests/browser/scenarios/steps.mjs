/** The server's limit, in bytes: the harness starts it with `--limit 4MiB --demo`. */
export const LIMIT = 4 * 1024 * 1024;

export async function choose(page, ...files) {
  const input = await page.$('#files');
  await input.uploadFile(...files.map((file) => file.path));
}

/** Sends the form and returns the response. */
export async function submit(page) {
  const [response] = await Promise.all([page.waitForNavigation(), page.click('#send')]);
  return response;
}

export function text(page, selector) {
  return page.$eval(selector, (element) => element.textContent.trim());
}

/** Sends with the script's help, and returns the words of the refusal. */
export async function sendAndRefuse(page) {
  await page.click('#send');
  return waitFor(page, '#refusal');
}

/** Sends with the script's help, and returns the list of files. */
export async function sendAndStore(page) {
  await page.click('#send');
  return waitFor(page, '#stored-files');
}

/** Waits for the outcome of an upload. It must be the one that `selector` shows. */
export async function waitFor(page, selector) {
  await page.waitForSelector('#refusal:not([hidden]), #stored:not([hidden])');
  const wanted = await page.$(`${selector}:not([hidden] *, [hidden])`);
  if (!wanted) throw new Error(`expected ${selector} to be shown`);
  return text(page, selector);
}
