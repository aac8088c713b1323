// One dependency from npm, so that `npm ci` has something to do.
const http = require("node:http");
const ms = require("ms");

const server = http.createServer((request, response) => {
  if (request.url !== "/health" && request.url !== "/") {
    response.writeHead(404).end();
    return;
  }
  response.end(`${process.env.NODE_ENV}: two days are ${ms("2 days")} ms\n`);
});
server.listen(Number(process.env.PORT));
process.on("SIGTERM", () => server.close(() => process.exit(0)));
