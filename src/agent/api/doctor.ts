/** `POST /v1/doctor`: the agent examines itself; the same report for `pcg doctor` and the portal's page. */
import type { FastifyInstance } from 'fastify';
import { withDeadline } from '../../base/clock.ts';
import { type DoctorOptions, examine } from '../doctor.ts';

const DOCTOR_TIMEOUT_MS = 50_000;

export function doctorRoutes(options: DoctorOptions) {
  return (server: FastifyInstance): void => {
    server.post('/v1/doctor', () =>
      withDeadline(options.clock, DOCTOR_TIMEOUT_MS, 'the examination', undefined, (signal) =>
        examine(options, signal),
      ),
    );
  };
}
