// Names for the types of the REST interface that `verify.sh` generates from `schemas/openapi.json`.
import type { components } from "./openapi";

type Schemas = components["schemas"];
export type JobView = Schemas["JobView"];
export type GenerationParams = Schemas["GenerationParams"];
export type Timings = Schemas["Timings"];
export type Problem = Schemas["Problem"];
export type ModelView = Schemas["ModelView"];
export type ModelList = Schemas["ModelList"];
export type ScoreReport = Schemas["ScoreReport"];
export type PairScores = Schemas["PairScores"];
export type BatchView = Schemas["BatchView"];
export type BatchCounts = Schemas["BatchCounts"];
export type BatchLine = Schemas["BatchLine"];
export type QueueView = Schemas["QueueView"];
export type DeadLetterView = Schemas["DeadLetterView"];
export type StatusView = Schemas["StatusView"];
export type SampleHistory = Schemas["SampleHistory"];
export type QueuedJobView = Schemas["QueuedJobView"];
export type QueuedJobList = Schemas["QueuedJobList"];
export type CancelledJobs = Schemas["CancelledJobs"];
export type ResubmittedJobs = Schemas["ResubmittedJobs"];
/** What a key may do. A gateway that does not say lets the page show everything. */
export type AccessView = { all_tenants: boolean; rights: string[] };
