// A sender built on dcmjs-dimse, for the tests: echoes, or sends each file over an Association of its own, because on
// one Association it would encode all objects of a SOP class in one syntax.
// node store.js HOST PORT CALLED_AE CALLING_AE [FILE ...]; prints the DIMSE statuses in order, as a JSON list.
'use strict';

const { Client, log, requests } = require('dcmjs-dimse');

log.setLevel('silent');
const [host, port, calledAe, callingAe, ...files] = process.argv.slice(2);

function ask(request) {
  return new Promise((resolve) => {
    const client = new Client();
    let status = null;
    request.on('response', (response) => {
      status = response.getStatus();
    });
    client.on('networkError', (error) => {
      console.error(error.message);
      process.exitCode = 1;
    });
    client.on('closed', () => resolve(status));
    client.addRequest(request);
    client.send(host, Number(port), callingAe, calledAe);
  });
}

(async () => {
  const asked = files.length ? files.map((file) => new requests.CStoreRequest(file)) : [new requests.CEchoRequest()];
  const statuses = [];
  for (const request of asked) {
    statuses.push(await ask(request));
  }
  console.log(JSON.stringify(statuses));
})();
