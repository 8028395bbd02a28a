// A sender of HL7 messages built on node-hl7-client or on simple-hl7, for the tests; simple-hl7 keeps one connection.
// node hl7_client.js LIBRARY PORT VERSION FILE ...; prints MSA-1 and MSA-2 of each answer, as a JSON list.
'use strict';

const fs = require('fs');

const [library, port, version, ...files] = process.argv.slice(2);
const messages = files.map((file) => fs.readFileSync(file, 'utf8').replace(/\r$/, ''));
const answers = [];

function done() {
  console.log(JSON.stringify(answers));
  process.exit(0);
}

if (library === 'node-hl7-client') {
  const { Client, Message } = require('node-hl7-client');
  const client = new Client({ host: '127.0.0.1', version });
  const send = () => connection.sendMessage(new Message({ text: messages[answers.length] }));
  const connection = client.createConnection({ port: Number(port) }, async (response) => {
    const answer = response.getMessage();
    answers.push([answer.get('MSA.1').toString(), answer.get('MSA.2').toString()]);
    if (answers.length === messages.length) {
      done();
    }
    setImmediate(send);
  });
  connection.once('connect', send);
} else {
  const client = require('simple-hl7').Server.createTcpClient({ host: '127.0.0.1', port: Number(port), keepalive: true });
  const send = () => {
    client.send(messages[answers.length], (error, answer) => {
      if (error) {
        throw error;
      }
      const msa = answer.getSegment('MSA');
      answers.push([msa.getField(1).toString(), msa.getField(2).toString()]);
      if (answers.length === messages.length) {
        done();
      }
      setImmediate(send);
    });
  };
  send();
}
