/** Whether tests take the time to try everything (`npm run test:long`): `npm test` tries a part of what is alike. */
export const LONG = process.env.TEST_LONG === '1';
