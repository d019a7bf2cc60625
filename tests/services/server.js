// A service of node: holds a number, and answers a question at the next tick of its clock only.
"use strict";
const http = require("http");

let number = "0";
let waiting = [];
setInterval(() => {
  const now = waiting;
  waiting = [];
  now.forEach((answer) => answer());
}, 20);

const server = http.createServer((request, response) => {
  waiting.push(() => {
    if (request.url.startsWith("/put/")) number = request.url.slice("/put/".length);
    const said = request.url === "/health" ? "healthy" : number;
    response.writeHead(200, { Connection: "close", "Content-Length": said.length });
    response.end(said);
  });
});
const [host, port] = process.argv[process.argv.length - 1].split(":");
server.listen(Number(port), host);
