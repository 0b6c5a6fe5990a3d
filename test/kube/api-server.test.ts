import { describe } from 'vitest';
import { startApiDouble } from '../support/api-server.ts';
import { apiServerSuite } from '../support/api-server-suite.ts';

describe("the Kubernetes side, on the simulator's API server", () => {
  apiServerSuite(startApiDouble);
});
