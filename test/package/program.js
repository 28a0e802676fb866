/* global CompletionPort */
// What an installed package has to be able to do: a file, and a connection. The tests put the
// `require` or the `import` of CompletionPort in front. Argument: a file to write.
async function main() {
  const port = new CompletionPort();
  const file = await port.open(process.argv[2], 'w+');
  await file.write('written', 0);
  const written = await file.read({ length: 100, position: 0 });
  const listener = await port.listen({ host: '127.0.0.1', port: 0 });
  const accepting = listener.accept();
  const client = await port.connect({ host: '127.0.0.1', port: listener.address().port });
  const server = await accepting;
  await client.send('echoed');
  await server.send(await server.receive());
  const echoed = await client.receive();
  console.log(port.driver, String(written), String(echoed));
  await port.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
