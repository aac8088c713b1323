// A web server that needs nothing but Node.js.
const http = require("node:http");

const port = Number(process.env.PORT || 3000);
const server = http.createServer((request, response) => {
  if (request.url === "/health") {
    response.writeHead(200, { "Content-Type": "application/json" });
    response.end(JSON.stringify({ status: "ok", uptime: process.uptime() }));
    return;
  }
  response.writeHead(200, { "Content-Type": "text/html; charset=utf-8" });
  response.end(`<h1>Hello from Node.js ${process.version}!</h1>\n`);
});

server.listen(port, () => console.log(`listening on port ${port}, ${process.env.NODE_ENV || "development"}`));
process.on("SIGTERM", () => server.close(() => process.exit(0)));
