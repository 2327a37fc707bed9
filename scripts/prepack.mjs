// npm runs this where somebody packs or publishes the clone itself, which would have no dependencies on the platforms.
console.error("pack with npm run packages, which makes the packages as they are published");
process.exitCode = 1;
