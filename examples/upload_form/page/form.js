// The form works without this script. The script checks the limit before it sends anything, shows
// the progress, and can cancel the upload.
import { encode } from './multipart.js';
import { explain, storedFiles } from './response.js';

const $ = (id) => document.getElementById(id);
const form = $('upload');
const fields = form.querySelector('fieldset');
const limit = Number(form.dataset.limit);
let upload = null;

const token = $('token');
for (const element of document.querySelectorAll('[data-script]')) {
  element.hidden = false;
}
// Not in the markup: a required field that stays hidden would block the form.
if (token) token.required = true;

form.addEventListener('submit', (event) => {
  event.preventDefault();
  if (upload) return;
  clear();
  const body = encode(new FormData(form));
  if (body.size > limit && !$('anyway')?.checked) {
    const [size, most] = sizes(body.size, limit);
    refuse(`Upload too large: ${size}. The limit is ${most}. Choose a smaller file, or send fewer files at once.`);
  } else {
    send(body);
  }
});

$('files').addEventListener('change', () => {
  const files = Array.from($('files').files);
  const size = files.reduce((sum, file) => sum + file.size, 0);
  $('chosen').textContent = `${files.length} ${files.length === 1 ? 'file' : 'files'}, ${rounded(size)}`;
  $('chosen').hidden = files.length === 0;
  $('hint').hidden = files.length > 0;
  clear();
});

$('cancel').addEventListener('click', () => upload?.abort());

document.addEventListener('dragover', (event) => {
  if (!event.dataTransfer?.types.includes('Files')) return;
  // Without this, the browser would leave the page to show the file.
  event.preventDefault();
  event.dataTransfer.dropEffect = upload ? 'none' : 'copy';
  form.classList.toggle('dragging', !upload);
});

document.addEventListener('dragleave', (event) => {
  // Moving from one element to another does not count, only leaving the window.
  if (!event.relatedTarget) form.classList.remove('dragging');
});

document.addEventListener('drop', (event) => {
  form.classList.remove('dragging');
  const files = event.dataTransfer?.files;
  if (!files?.length) return;
  event.preventDefault();
  if (upload) return;
  $('files').files = files;
  $('files').dispatchEvent(new Event('change'));
});

function send(body) {
  const request = new XMLHttpRequest();
  request.open('POST', form.action);
  request.setRequestHeader('Accept', 'text/plain');
  if (token) request.setRequestHeader('Authorization', `Bearer ${token.value}`);

  request.upload.addEventListener('progress', ({ loaded, total }) => show(loaded, total));
  request.addEventListener('load', () => {
    const files = storedFiles(request);
    if (files) list(files);
    else refuse(explain(request));
  });
  request.addEventListener('error', () => {
    refuse('The upload was aborted before a response came. The connection was lost, or a file could not be read.');
  });
  request.addEventListener('abort', () => {
    $('news').textContent = 'Cancelled. Your files were not uploaded.';
    busy(null);
    $('send').focus();
  });

  busy(request);
  show(0, body.size);
  $('cancel').focus();
  request.send(body);
}

/** Locks the form and replaces Upload by Cancel while `request` runs. */
function busy(request) {
  upload = request;
  fields.disabled = request !== null;
  $('send').hidden = request !== null;
  $('cancel').hidden = request === null;
  $('progress').hidden = request === null;
}

function show(loaded, total) {
  $('bar').max = total;
  $('bar').value = loaded;
  $('figures').textContent =
    loaded < total ? `${rounded(loaded)} of ${rounded(total)}` : `${rounded(total)} sent, waiting for the response`;
  // Announced only at each quarter, because an announcement for each event would never end.
  const quarter = Math.floor((4 * loaded) / total);
  const news = quarter < 4 ? `${quarter * 25} percent sent` : 'All sent, waiting for the response';
  if ($('news').textContent !== news) $('news').textContent = news;
}

function clear() {
  $('news').textContent = '';
  $('refusal').hidden = true;
  $('stored').hidden = true;
}

function refuse(words) {
  clear();
  busy(null);
  $('refusal').textContent = words;
  $('refusal').hidden = false;
  $('refusal').focus();
}

/** Lists the stored files. A line of the server has hash, size and name, separated by two spaces. */
function list(lines) {
  clear();
  busy(null);
  $('stored-files').replaceChildren(
    ...lines.map((line) => {
      const [hash, size, ...name] = line.split('  ');
      const item = document.createElement('li');
      item.append(element('strong', name.join('  ')), element('span', rounded(parseInt(size, 10))), element('code', `SHA-256 ${hash}`));
      return item;
    }),
  );
  $('stored').hidden = false;
  $('stored').focus();
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

/** Returns a size and the limit for people. If both would read the same, it adds exact numbers. */
function sizes(size, limit) {
  const pair = [rounded(size), rounded(limit)];
  return pair[0] === pair[1] ? [exact(size), `${pair[1]} (${exact(limit)})`] : pair;
}

function exact(count) {
  return `${count.toLocaleString('en')} ${count === 1 ? 'byte' : 'bytes'}`;
}

function rounded(count) {
  if (count < 1024) return exact(count);
  const names = ['KiB', 'MiB', 'GiB', 'TiB'];
  let power = -1;
  while (count >= 1024 && power < names.length - 1) {
    count /= 1024;
    power += 1;
  }
  return `${count.toLocaleString('en', { maximumFractionDigits: 1 })} ${names[power]}`;
}
