import { readFileSync } from "node:fs";
import openapiTS, { astToString, COMMENT_HEADER } from "openapi-typescript";
import { expect, test } from "vitest";

test("the REST types are those of the OpenAPI document (else: npm run generate)", async () => {
  const path = (relative: string): URL => new URL(relative, import.meta.url);
  const types = astToString(await openapiTS(path("../../../../docs/openapi.json"), { immutable: true }));
  const committed = readFileSync(path("../../src/rest/openapi.generated.ts"), "utf8");
  expect(committed === COMMENT_HEADER + types, "src/rest/openapi.generated.ts is stale").toBe(true);
});
