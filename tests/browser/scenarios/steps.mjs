/** The server's limit, in bytes: the harness starts it with `--limit 4MiB --demo`. */
export const LIMIT = 4 * 1024 * 1024;

export async function choose(page, ...files) {
  const input = await page.$('#files');
  await input.uploadFile(...files.map((file) => file.path));
}

/** Sends the form and returns the response. Throws if the browser reports a network error. */
export function submit(page) {
  return navigate(page, () => page.click('#send'));
}

/** Sends the form with `submit()`, which fires no submit event. So the script does not take over. */
export function submitPlainly(page) {
  return navigate(page, () => page.$eval('#upload', (form) => form.submit()));
}

async function navigate(page, send) {
  const failed = new Promise((_, reject) => {
    page.on('requestfailed', (request) => {
      if (request.method() === 'POST') reject(new Error(`network error: ${request.failure().errorText}`));
    });
  });
  const [response] = await Promise.race([Promise.all([page.waitForNavigation(), send()]), failed]);
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
