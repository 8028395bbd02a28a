// A reader built on dcmjs, for the tests: what it finds in each file, and every item of a structured report.
// node walk.js FILE ...; prints a JSON list with one entry for each file.
'use strict';

const fs = require('fs');
const dcmjs = require('dcmjs');

dcmjs.log.setLevel('silent');
const { DicomMessage, DicomMetaDictionary } = dcmjs.data;

function listOf(value) {
  return value === undefined ? [] : Array.isArray(value) ? value : [value];
}

function walk(item, depth, found) {
  const name = listOf(item.ConceptNameCodeSequence)[0];
  const code = listOf(item.ConceptCodeSequence)[0];
  const measured = listOf(item.MeasuredValueSequence)[0];
  found.push({
    depth,
    type: item.ValueType,
    name: name ? name.CodeValue : '',
    value: item.TextValue || item.UID || (code && code.CodeValue) || (measured && String(measured.NumericValue)) || '',
  });
  listOf(item.ContentSequence).forEach((child) => walk(child, depth + 1, found));
}

const read = process.argv.slice(2).map((file) => {
  const bytes = fs.readFileSync(file);
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  const ds = DicomMetaDictionary.naturalizeDataset(DicomMessage.readFile(buffer).dict);
  const items = [];
  if (ds.ValueType) walk(ds, 0, items);
  return {
    sop_class_uid: ds.SOPClassUID,
    sop_instance_uid: ds.SOPInstanceUID,
    patient_name: JSON.stringify(ds.PatientName),
    patient_id: String(ds.PatientID),
    items,
  };
});
console.log(JSON.stringify(read));
