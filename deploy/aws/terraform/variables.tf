variable "name" {
  description = "Begins the names of everything."
  type        = string
  default     = "openmigrate"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}$", var.name))
    error_message = "2 to 31 lower-case letters, digits and dashes."
  }
}

variable "bucket" {
  description = "Name of the staging bucket, which is made."
  type        = string
}

variable "versioning" {
  description = "Keep what is overwritten or deleted in the bucket for retain_days. Packs are never overwritten, so this is for mistakes and malice, and costs what garbage collection would have freed."
  type        = bool
  default     = false
}

variable "retain_days" {
  description = "With versioning: days that old versions are kept."
  type        = number
  default     = 14
}

variable "kms_key_arn" {
  description = "KMS key for the bucket, the volumes and the snapshots. Empty: SSE-S3 for the bucket, the account's default for volumes."
  type        = string
  default     = ""
}

variable "vpc_id" {
  description = "VPC of master and hydrator."
  type        = string
}

variable "subnet_id" {
  description = "Subnet of master and hydrator."
  type        = string
}

variable "route_table_ids" {
  description = "Route tables that get the gateway endpoint for S3, which keeps traffic to the bucket off the NAT gateway. Empty: no endpoint."
  type        = list(string)
  default     = []
}

variable "clients" {
  description = "CIDR blocks from which agents and people reach the master."
  type        = list(string)
  validation {
    condition     = length(var.clients) > 0 && !contains(var.clients, "0.0.0.0/0") && !contains(var.clients, "::/0")
    error_message = "Name the networks of the servers and of the people; the whole internet is none."
  }
}

variable "port" {
  description = "Port of the master."
  type        = number
  default     = 8443
}

variable "image_id" {
  description = "AMI of master and hydrator: Debian 12 or any Linux with systemd and cloud-init. Empty: no instances are made, only bucket, roles and groups."
  type        = string
  default     = ""
}

variable "master_type" {
  description = "Instance type of the master."
  type        = string
  default     = "t3.medium"
}

variable "hydrator_type" {
  description = "Instance type of hydrators; see docs/AWS.md for how fast which one is."
  type        = string
  default     = "m7i.large"
}

variable "hydrator_spot" {
  description = "Let hydrators be spot instances: a hydrator that is taken away is gone on with by another one."
  type        = bool
  default     = true
}

variable "program_url" {
  description = "HTTPS address of the openmigrate program for the instances' architecture."
  type        = string
  default     = ""
}

variable "program_sha256" {
  description = "SHA-256 of what program_url leads to."
  type        = string
  default     = ""
}

variable "master_trusts" {
  description = "ARNs of roles of other accounts that may assume this account's target role, as the master does that runs there. Empty: no target role."
  type        = list(string)
  default     = []
}

variable "external_id" {
  description = "External id that they must name; required with master_trusts."
  type        = string
  default     = ""
  sensitive   = true
}

variable "target_role_arn" {
  description = "Target role of another account, which this account's master may assume. Empty: machines are brought up in this account."
  type        = string
  default     = ""
}

variable "machine_role_arn" {
  description = "Role that the master may give to launched machines. Empty: none."
  type        = string
  default     = ""
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}
