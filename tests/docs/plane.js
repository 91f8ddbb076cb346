// node plane.js FOLDER: reads a case as JSON, computes it with the figure's scripts, prints the results as JSON.
const {readFileSync} = require('fs')
const {runInThisContext} = require('vm')
for (const name of ['maths', 'field', 'words']) runInThisContext(readFileSync(`${process.argv[2]}/${name}.js`, 'utf8'), name)
runInThisContext(readFileSync(`${__dirname}/plane_case.js`, 'utf8'), 'plane_case')
const said = words => Object.entries(words).flatMap(([key, value]) =>
  [key, typeof value, ...Object.entries(value.constructor === Object ? value : {}).map(([k, v]) => [k, v.length])])
const {en, fr} = plane.WORDS
process.stdout.write(JSON.stringify(
  {...computed(JSON.parse(readFileSync(0, 'utf8'))), english: said(en), french: said(fr)}))
