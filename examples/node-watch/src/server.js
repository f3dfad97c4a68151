const http = require("node:http");
const { version } = require("../package.json");

const greeting = "hello";

const server = http.createServer((request, response) => {
  response.end(`${greeting} from version ${version}\n`);
});
server.listen(3000);
process.on("SIGTERM", () => process.exit(0));
