// The resource records that cluster DNS speaks (RFC 1035, 2782, 3596). Names are without their final dot.

export type DnsRecord =
  | {
      readonly name: string;
      readonly type: "A" | "AAAA" | "CNAME" | "PTR" | "NS";
      readonly ttl: number;
      readonly data: string;
    }
  | { readonly name: string; readonly type: "TXT"; readonly ttl: number; readonly data: string }
  | { readonly name: string; readonly type: "SRV"; readonly ttl: number; readonly data: SrvData }
  | { readonly name: string; readonly type: "SOA"; readonly ttl: number; readonly data: SoaData };

export interface SrvData {
  readonly priority: number;
  readonly weight: number;
  readonly port: number;
  readonly target: string;
}

export interface SoaData {
  readonly mname: string;
  readonly rname: string;
  readonly serial: number;
  readonly refresh: number;
  readonly retry: number;
  readonly expire: number;
  readonly minimum: number;
}

export type Rcode = "NOERROR" | "FORMERR" | "SERVFAIL" | "NXDOMAIN" | "NOTIMP" | "REFUSED" | "BADVERS";

/** What is said to one question. */
export interface Reply {
  readonly rcode: Rcode;
  /** Whether it comes from our own zone. */
  readonly authoritative: boolean;
  readonly answers: readonly DnsRecord[];
  readonly authorities: readonly DnsRecord[];
  readonly additionals: readonly DnsRecord[];
}

export interface DnsQuestion {
  /** As it was asked: the answer keeps its case. */
  readonly name: string;
  /** `A`, `SRV`, …; `UNKNOWN_65` for types without a name here. */
  readonly type: string;
}
