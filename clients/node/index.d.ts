import type { ChannelCredentials, Metadata, ServiceError } from "@grpc/grpc-js";
import type { MethodDefinition } from "@grpc/proto-loader";
import type { Services } from "./types/services.js";

export const protos: string;
export const v1: { [Name in keyof Services]: new (...parameters: any[]) => Services[Name]["client"] };
export function reasonOf(error: unknown): string;

/** The unary calls of a service. `timeout` is in milliseconds, by default a minute; a call fails with a ServiceError. */
export type Calls<Definition> = {
  [Method in keyof Definition]: Definition[Method] extends MethodDefinition<infer Request, any, any, infer Response>
    ? (request?: Request, options?: { timeout?: number }) => Promise<Response>
    : never;
};

/** What streams need: the client of @grpc/grpc-js, and the metadata with the token. */
export type Service<Client, Definition> = Calls<Definition> & { client: Client; metadata: Metadata };

export type Connection = {
  [Name in keyof Services]: Service<Services[Name]["client"], Services[Name]["definition"]>;
} & { close(): void };

export function connect(address: string, options: { token: string; credentials?: ChannelCredentials }): Connection;
export type { ServiceError };
