import { once } from 'node:events';
import net from 'node:net';

/**
 * A relay in front of the server. While it is held, nothing of what the browser
 * sends gets through, so that an upload stays under way for as long as a
 * scenario needs, however fast the machine is. TLS passes through it as it is.
 */
export async function startGate(url) {
  const { protocol, hostname, port } = new URL(url);
  const sockets = new Set();
  let held = null;
  let release = () => {};

  const relay = net.createServer((browser) => {
    const server = net.connect(port, hostname);
    for (const socket of [browser, server]) {
      sockets.add(socket);
      socket.on('error', () => {}).on('close', () => sockets.delete(socket));
    }
    server.pipe(browser);
    forward(browser, server).catch(() => server.destroy());
  });

  async function forward(browser, server) {
    for await (const chunk of browser) {
      await held;
      if (!server.write(chunk)) await once(server, 'drain');
    }
    server.end();
  }

  relay.listen(0, '127.0.0.1');
  await once(relay, 'listening');
  return {
    url: `${protocol}//127.0.0.1:${relay.address().port}`,
    hold() {
      held = new Promise((resolve) => (release = resolve));
    },
    open() {
      held = null;
      release();
    },
    async close() {
      this.open();
      for (const socket of sockets) socket.destroy();
      relay.close();
      await once(relay, 'close');
    },
  };
}
