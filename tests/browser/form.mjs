// Drives the upload_form example, started with `--limit 4MiB --demo`, with a real browser:
//
//   node form.mjs --url http://127.0.0.1:3000 --browser firefox --scenario refusal
//   node form.mjs --list [--browser chromium] [--tls | --nginx]
//
// `--list --tls` lists the scenarios that are worth repeating over HTTPS. `--list --nginx` lists
// the scenarios that need a form behind an nginx with a smaller limit. No list has
// `no-js-refusal-400`: it needs a form with `--status 400`, and in `--plain URL` the same form
// without this crate.
//
// Exit status 0: passed. 1: failed; prints the expected and the actual value. 2: wrong usage.
import { mkdtemp, mkdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { names as browsers } from './browser.mjs';
import { behindNginx, overTls, scenarios, withStatus400 } from './scenarios.mjs';
import { Stage } from './stage.mjs';

/** The time limit of a whole scenario. Each step has a shorter limit. */
const TIME_LIMIT = 120_000;

const options = readOptions();
if (options.list) {
  for (const name of listed(options)) console.log(name);
} else {
  process.exitCode = await run(options);
}

function listed({ tls, nginx }) {
  if (tls) return overTls;
  if (nginx) return behindNginx;
  const others = [...behindNginx, withStatus400];
  return Object.keys(scenarios).filter((name) => !others.includes(name));
}

async function run({ url, plain, browser, scenario, shots }) {
  const folder = await mkdtemp(join(tmpdir(), 'upload-form-'));
  if (shots) await mkdir(shots, { recursive: true });
  const stage = new Stage({ url, plain, browser, folder, shots });
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${TIME_LIMIT / 1000} s`)), TIME_LIMIT);
  });
  try {
    await Promise.race([scenarios[scenario](stage), late]);
    console.log(`${scenario} in ${browser}: passed`);
    return 0;
  } catch (error) {
    console.error(`${scenario} in ${browser}: failed\n${error.stack ?? error}`);
    const seen = await stage.seen();
    if (seen) console.error(`the page then:\n${seen}`);
    return 1;
  } finally {
    clearTimeout(timer);
    await stage.close();
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

function readOptions() {
  const { values } = parse();
  if (values.browser && !browsers.includes(values.browser)) {
    usage(`--browser must be one of: ${browsers.join(', ')}`);
  }
  if (values.list) return values;
  if (!values.url) usage('--url is missing: the address of the running example');
  if (!values.browser) usage(`--browser is missing: ${browsers.join(' or ')}`);
  if (!Object.hasOwn(scenarios, values.scenario ?? '')) usage('--scenario must be one that --list prints');
  return values;
}

function parse() {
  try {
    return parseArgs({
      options: {
        url: { type: 'string' },
        plain: { type: 'string' },
        browser: { type: 'string' },
        scenario: { type: 'string' },
        shots: { type: 'string' },
        list: { type: 'boolean' },
        tls: { type: 'boolean' },
        nginx: { type: 'boolean' },
      },
    });
  } catch (error) {
    return usage(error.message);
  }
}

function usage(problem) {
  console.error(`form.mjs: ${problem}`);
  process.exit(2);
}
