import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";
import protobuf from "protobufjs";

/** The folder with the protos of the API. */
export const protos = fileURLToPath(new URL("./protos", import.meta.url));

const MAX_MESSAGE_BYTES = 32 * 1024 * 1024;
const files = readdirSync(`${protos}/flowhook/v1`).filter((name) => name.endsWith("_service.proto"));
const definition = protoLoader.loadSync(
  files.map((name) => `flowhook/v1/${name}`),
  { includeDirs: [protos], keepCase: true, defaults: true, oneofs: true, enums: String, longs: String },
);

/** Constructors of the services, as @grpc/grpc-js makes them. */
export const v1 = grpc.loadPackageDefinition(definition).flowhook.v1;

const rpc = protobuf.parse(
  `syntax = "proto3";
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }`,
  { keepCase: true },
).root;

/** The stable reason of a failed call, such as FLOW_NOT_FOUND; empty if no router answered. */
export function reasonOf(error) {
  const [bytes] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (!bytes) return "";
  const { details } = rpc.lookupType("Status").decode(bytes);
  const info = details.find((detail) => detail.type_url.endsWith("/google.rpc.ErrorInfo"));
  return info ? rpc.lookupType("ErrorInfo").decode(info.value).reason : "";
}

/** Connect to a router: for each service, an object with its unary calls as functions that return promises. */
export function connect(address, { token, credentials = grpc.credentials.createInsecure() }) {
  const options = {
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
  };
  const metadata = new grpc.Metadata();
  metadata.set("authorization", `Bearer ${token}`);
  const clients = [];
  const services = Object.entries(v1).filter(([, value]) => value.service);
  const calls = services.map(([name, Service]) => {
    const client = new Service(address, credentials, options);
    clients.push(client);
    const unary = Object.keys(Service.service).filter((method) => {
      const { requestStream, responseStream } = Service.service[method];
      return !requestStream && !responseStream;
    });
    const call = (method) => (request = {}, { timeout = 60_000 } = {}) =>
      new Promise((resolve, reject) =>
        client[method](request, metadata, { deadline: Date.now() + timeout }, (error, response) =>
          error ? reject(error) : resolve(response),
        ),
      );
    return [name, { client, metadata, ...Object.fromEntries(unary.map((method) => [method, call(method)])) }];
  });
  return { ...Object.fromEntries(calls), close: () => clients.forEach((client) => client.close()) };
}
