const answer = require("./answer.cjs");

answer(require("inhouse")).then(console.log);
