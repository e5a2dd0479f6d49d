// JSON Web Tokens for tests: one good one and such as no proxy may take, with the key set that verifies the good one.

import { exportJWK, generateKeyPair, SignJWT } from "jose";

export const issuer = "https://issuer.example";

const [pair, other] = [await generateKeyPair("ES256"), await generateKeyPair("ES256")];

async function token(claims: Record<string, unknown> = {}, key = pair.privateKey): Promise<string> {
  return await new SignJWT({ iss: issuer, aud: "shop", sub: "ann", ...claims })
    .setProtectedHeader({ alg: "ES256", kid: "k" })
    .setExpirationTime((claims["exp"] as number | undefined) ?? "5m")
    .sign(key);
}

export const tokens = {
  keys: JSON.stringify({ keys: [{ ...(await exportJWK(pair.publicKey)), kid: "k", alg: "ES256", use: "sig" }] }),
  good: await token(),
  expired: await token({ exp: Math.floor(Date.now() / 1000) - 3600 }),
  otherIssuer: await token({ iss: "https://other.example" }),
  otherAudience: await token({ aud: "other" }),
  otherKey: await token({}, other.privateKey),
};
