// Makes the bucket of REGISTRY_S3_BUCKET unless it is there, with the settings of the registry and its S3 client.
import process from 'node:process';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';

const { env } = process;
const client = new S3Client({
  endpoint: env.REGISTRY_S3_ENDPOINT,
  region: env.REGISTRY_S3_REGION || 'us-east-1',
  credentials: { accessKeyId: env.REGISTRY_S3_ACCESS_KEY_ID, secretAccessKey: env.REGISTRY_S3_SECRET_ACCESS_KEY },
  forcePathStyle: env.REGISTRY_S3_FORCE_PATH_STYLE !== 'false',
});
const Bucket = env.REGISTRY_S3_BUCKET;
try {
  await client.send(new CreateBucketCommand({ Bucket }));
  console.log(`the bucket ${Bucket} is there`);
} catch (error) {
  if (error.name !== 'BucketAlreadyOwnedByYou') throw error;
  console.log(`the bucket ${Bucket} was there`);
}
