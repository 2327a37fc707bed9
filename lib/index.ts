export { InhouseError, type InhouseErrorCode } from "./errors.js";
