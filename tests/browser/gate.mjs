import { once } from 'node:events';
import net from 'node:net';

/**
 * A relay in front of the server. While it is held, it forwards nothing that the
 * browser sends. An upload thus stays in progress for as long as a scenario needs,
 * on a machine of any speed. TLS passes through unchanged.
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
