// The form with its script, behind a proxy that responds in its place.
import { contains, equal } from '../stage.mjs';
import { choose, sendAndRefuse, sendAndStore } from './steps.mjs';

/** How the form explains each response: how its text begins, and what else it contains. */
const RESPONSES = [
  {
    sent: { status: 413, contentType: 'text/html', body: page('413 Request Entity Too Large') },
    begins: '413 Content Too Large. ',
    has: 'refused before it reached this form',
  },
  {
    sent: { status: 502, body: '' },
    begins: '502 Bad Gateway. ',
    has: 'got no response from this form',
  },
  {
    sent: { status: 504, contentType: 'text/html; charset=utf-8', body: page('504 Gateway Time-out') },
    begins: '504 Gateway Timeout. ',
    has: 'got no response from this form',
  },
  {
    sent: { status: 504, contentType: 'text/plain', body: page('504 Gateway Time-out') },
    begins: '504 Gateway Timeout. ',
    has: 'got no response from this form',
  },
  {
    sent: { status: 403, contentType: 'application/json', body: '{"error":{"code":7,"trace":"f00"}}' },
    begins: '403 Forbidden. ',
    has: 'refused before it reached this form',
  },
  {
    sent: { status: 503, contentType: 'text/plain', body: 'Down for maintenance until noon.' },
    begins: 'Down for maintenance until noon.',
    has: '',
  },
  {
    sent: { status: 200, contentType: 'text/html', body: page('Log in to go on') },
    begins: '200',
    has: 'did not come from this form',
  },
  {
    sent: { status: 200, contentType: 'text/plain', body: 'OK' },
    begins: '200',
    has: 'did not come from this form',
  },
];

/** A proxy's responses are never shown as source text, nor as stored files. */
export async function others(stage) {
  const page = await stage.open();
  const file = await stage.file(1000);
  await choose(page, file);

  let sent;
  const respond = (request) =>
    request.method() === 'POST' ? request.respond(sent) : request.continue();
  await page.setRequestInterception(true);
  page.on('request', respond);
  for (const response of RESPONSES) {
    sent = response.sent;
    const words = await sendAndRefuse(page);
    equal('how the words begin', words.slice(0, response.begins.length), response.begins);
    contains('the words', words, response.has);
    equal('what is left of its source', words.match(/[<{]/)?.input, undefined);
  }
  page.off('request', respond);
  await page.setRequestInterception(false);
  contains('the list, when the form responds again', await sendAndStore(page), file.hash);
}

/** The form would accept this file, but the nginx in front of it does not. */
export async function smallerLimit(stage) {
  const page = await stage.open();
  await choose(page, await stage.file(3_000_000));
  const words = await sendAndRefuse(page);
  equal('how the words begin', words.slice(0, 23), '413 Content Too Large. ');
  contains('the words', words, 'refused before it reached this form');
  equal('requests', page.uploads, 1);

  const small = await stage.file(500_000);
  await choose(page, small);
  contains('the list, of a smaller file', await sendAndStore(page), small.hash);
}

function page(title) {
  return `<html>\r\n<head><title>${title}</title></head>\r\n<body><h1>${title}</h1></body>\r\n</html>\r\n`;
}
