// A receiver of HL7 messages built on node-hl7-server or on simple-hl7, for the tests; on the loopback address only.
// node hl7_server.js LIBRARY [KEY CERTIFICATE]; prints its port, then each message as it came, as JSON, one a line.
'use strict';

const fs = require('fs');
const net = require('net');

const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...asked) {
  const port = typeof asked[0] === 'object' ? asked[0].port : asked[0];
  this.once('listening', () => console.log(JSON.stringify(this.address().port)));
  return listen.call(this, { port, host: '127.0.0.1' }, ...asked.filter((one) => typeof one === 'function'));
};

const [library, key, certificate] = process.argv.slice(2);
const tell = (message) => console.log(JSON.stringify(message));

if (library === 'node-hl7-server') {
  const { Server } = require('node-hl7-server');
  const tls = key ? { key: fs.readFileSync(key), cert: fs.readFileSync(certificate) } : undefined;
  const inbound = new Server(tls ? { tls } : {}).createInbound({ port: 0 }, async (request, response) => {
    await response.sendResponse('AA');
  });
  inbound.on('data.raw', tell);
} else {
  const app = require('simple-hl7').tcp();
  app.use((request, response) => {
    tell(request.raw.slice(1, -2));
    response.end();
  });
  app.start(0);
}
