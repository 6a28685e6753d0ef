// Chat page and engine on App Service for Linux, each instance with both in one network namespace:
//   az deployment group create --resource-group GROUP --template-file main.bicep --parameters parameters.sidecar.json
// The container registry already exists in the same resource group and holds the images (README.md).
// main.json is the same as ARM JSON; deploy/verification/validate compares the two property by property.

targetScope = 'resourceGroup'

@description('Name of the web app. The first part of its address, so nobody else in Azure may have it.')
param siteName string

@description('Name of the container registry in this resource group that holds the images.')
param registryName string

@description('Tag of all images.')
param imageTag string = 'latest'

@description('sidecar: page and engine as two containers. standalone: both programs in one container.')
@allowed([
  'sidecar'
  'standalone'
])
param variant string = 'sidecar'

@description('baked: the model is in the image bitnet-engine-with-model. standalone needs a reference, such as bitnet-2b or demo.')
param model string = 'baked'

@description('Size of one instance. The official model needs 2 GB for the engine alone; B sizes have neither autoscale nor slots.')
@allowed([
  'B2'
  'B3'
  'P0v3'
  'P1v3'
  'P2v3'
  'P3v3'
  'P1mv3'
  'P2mv3'
])
param planSize string = 'P1v3'

@description('Instances that always run.')
@minValue(1)
@maxValue(30)
param minimumInstances int = 1

@description('Instances that autoscale may reach.')
@minValue(1)
@maxValue(30)
param maximumInstances int = 3

@description('Seconds that running answers get when an instance stops. The platform waits ten seconds longer, and 120 at most.')
@minValue(1)
@maxValue(110)
param drainSeconds int = 45

@description('Seconds that the containers may take to become ready before the platform starts them again.')
@minValue(230)
@maxValue(1800)
param startSeconds int = 600

@description('Region of everything.')
param location string = resourceGroup().location

var isSidecar = variant == 'sidecar'
// Only the sidecar comes with a baked model. With standalone, 'baked' reaches the engine as a name that it refuses with a message.
var isBaked = isSidecar && (model == 'baked')
var engineRepository = isBaked ? 'bitnet-engine-with-model' : 'bitnet-engine'
var acrPullRoleId = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '7f951dda-4ed3-4680-a7ca-43fe172d538d')
var hasAutoscale = !startsWith(planSize, 'B')

// A baked model is loaded in seconds: an instance gets its first visitor when it can answer. A download takes minutes, and the page shows
// how far it is: then the page alone counts.
var warmUpPath = isBaked ? '/ready' : '/health'

// Both programs read only their own variables, so it does no harm that the CLI passes all settings to all containers.
var commonSettings = [
  {
    name: 'DRAIN_TIMEOUT'
    value: string(drainSeconds)
  }
  {
    // The page passes on what the engine still says, so the engine must not stop before it.
    name: 'BITNET_SHUTDOWN_TIMEOUT'
    value: string(drainSeconds)
  }
  {
    // After SIGTERM the platform kills after 5 seconds unless told otherwise.
    name: 'WEBSITES_CONTAINER_STOP_TIME_LIMIT'
    value: string(drainSeconds + 10)
  }
  {
    name: 'WEBSITES_CONTAINER_START_TIME_LIMIT'
    value: string(startSeconds)
  }
  {
    name: 'WEBSITE_WARMUP_PATH'
    value: warmUpPath
  }
  {
    name: 'WEBSITE_WARMUP_STATUSES'
    value: '200'
  }
  {
    // A swap waits for a slot that can answer, even if its model is downloaded.
    name: 'WEBSITE_SWAP_WARMUP_PING_PATH'
    value: '/ready'
  }
  {
    name: 'WEBSITE_SWAP_WARMUP_PING_STATUSES'
    value: '200'
  }
  {
    // Nothing is kept, so /home needs no share.
    name: 'WEBSITES_ENABLE_APP_SERVICE_STORAGE'
    value: 'false'
  }
]
var sidecarSettings = isSidecar ? [
  {
    name: 'ENGINE_URL'
    value: 'http://localhost:11434'
  }
] : []
// Never set for a baked model: the image says where that is.
var modelSettings = isBaked ? [] : [
  {
    name: 'BITNET_MODEL'
    value: model
  }
]

// The value of each is the NAME of an app setting.
var webVariables = [
  {
    name: 'ENGINE_URL'
    value: 'ENGINE_URL'
  }
  {
    name: 'DRAIN_TIMEOUT'
    value: 'DRAIN_TIMEOUT'
  }
]
var standaloneVariables = [
  {
    name: 'DRAIN_TIMEOUT'
    value: 'DRAIN_TIMEOUT'
  }
]
var engineVariables = [
  {
    name: 'BITNET_SHUTDOWN_TIMEOUT'
    value: 'BITNET_SHUTDOWN_TIMEOUT'
  }
]
var modelVariables = isBaked ? [] : [
  {
    name: 'BITNET_MODEL'
    value: 'BITNET_MODEL'
  }
]

resource registry 'Microsoft.ContainerRegistry/registries@2023-07-01' existing = {
  name: registryName
}

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: '${siteName}-pull'
  location: location
}

resource pullRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(registry.id, identity.id, acrPullRoleId)
  scope: registry
  properties: {
    roleDefinitionId: acrPullRoleId
    principalId: identity.properties.principalId
    // Otherwise the assignment fails while the directory does not know the new identity yet.
    principalType: 'ServicePrincipal'
  }
}

resource plan 'Microsoft.Web/serverfarms@2024-11-01' = {
  name: '${siteName}-plan'
  location: location
  kind: 'linux'
  sku: {
    name: planSize
    capacity: minimumInstances
  }
  properties: {
    // This is what makes a plan one for Linux.
    reserved: true
  }
}

resource site 'Microsoft.Web/sites@2024-11-01' = {
  name: siteName
  location: location
  kind: 'app,linux,container'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identity.id}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    // A conversation lives in the page, so any instance may answer the next message.
    clientAffinityEnabled: false
    siteConfig: {
      linuxFxVersion: 'sitecontainers'
      acrUseManagedIdentityCreds: true
      acrUserManagedIdentityID: identity.properties.clientId
      alwaysOn: true
      http20Enabled: true
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      ftpsState: 'Disabled'
      // Alive, not ready: an instance that still downloads must not be replaced, it would begin anew.
      healthCheckPath: '/health'
      appSettings: concat(commonSettings, sidecarSettings, modelSettings)
    }
  }
}

resource ftpPolicy 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-11-01' = {
  parent: site
  name: 'ftp'
  properties: {
    allow: false
  }
}

resource scmPolicy 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-11-01' = {
  parent: site
  name: 'scm'
  properties: {
    allow: false
  }
}

resource webContainer 'Microsoft.Web/sites/sitecontainers@2024-11-01' = if (isSidecar) {
  parent: site
  name: 'web'
  properties: {
    image: '${registry.properties.loginServer}/bitnet-web:${imageTag}'
    // A string: the number 8080 is refused. From outside only 80 and 8080 can be reached.
    targetPort: '8080'
    isMain: true
    authType: 'UserAssigned'
    userManagedIdentityClientId: identity.properties.clientId
    inheritAppSettingsAndConnectionStrings: false
    environmentVariables: webVariables
  }
  dependsOn: [
    pullRole
  ]
}

resource engineContainer 'Microsoft.Web/sites/sitecontainers@2024-11-01' = if (isSidecar) {
  parent: site
  name: 'engine'
  properties: {
    image: '${registry.properties.loginServer}/${engineRepository}:${imageTag}'
    targetPort: '11434'
    isMain: false
    authType: 'UserAssigned'
    userManagedIdentityClientId: identity.properties.clientId
    inheritAppSettingsAndConnectionStrings: false
    environmentVariables: concat(engineVariables, modelVariables)
  }
  dependsOn: [
    pullRole
  ]
}

resource chatContainer 'Microsoft.Web/sites/sitecontainers@2024-11-01' = if (!isSidecar) {
  parent: site
  name: 'chat'
  properties: {
    image: '${registry.properties.loginServer}/bitnet-chat:${imageTag}'
    targetPort: '8080'
    isMain: true
    authType: 'UserAssigned'
    userManagedIdentityClientId: identity.properties.clientId
    inheritAppSettingsAndConnectionStrings: false
    environmentVariables: concat(standaloneVariables, engineVariables, modelVariables)
  }
  dependsOn: [
    pullRole
  ]
}

// Every answer keeps the engine's cores busy, so CPU is what tells how many instances are needed. Out is quick and in is slow, since a new
// instance first pulls images and loads the model.
resource scaling 'Microsoft.Insights/autoscalesettings@2022-10-01' = if (hasAutoscale) {
  name: '${siteName}-scaling'
  location: location
  properties: {
    enabled: true
    targetResourceUri: plan.id
    profiles: [
      {
        name: 'cpu'
        capacity: {
          minimum: string(minimumInstances)
          maximum: string(maximumInstances)
          default: string(minimumInstances)
        }
        rules: [
          {
            metricTrigger: {
              metricName: 'CpuPercentage'
              metricResourceUri: plan.id
              timeGrain: 'PT1M'
              statistic: 'Average'
              timeWindow: 'PT5M'
              timeAggregation: 'Average'
              operator: 'GreaterThan'
              threshold: 70
            }
            scaleAction: {
              direction: 'Increase'
              type: 'ChangeCount'
              value: '1'
              cooldown: 'PT5M'
            }
          }
          {
            metricTrigger: {
              metricName: 'CpuPercentage'
              metricResourceUri: plan.id
              timeGrain: 'PT1M'
              statistic: 'Average'
              timeWindow: 'PT15M'
              timeAggregation: 'Average'
              operator: 'LessThan'
              threshold: 25
            }
            scaleAction: {
              direction: 'Decrease'
              type: 'ChangeCount'
              value: '1'
              cooldown: 'PT15M'
            }
          }
        ]
      }
    ]
  }
}

resource workspace 'Microsoft.OperationalInsights/workspaces@2023-09-01' = {
  name: '${siteName}-logs'
  location: location
  properties: {
    sku: {
      name: 'PerGB2018'
    }
    retentionInDays: 30
  }
}

resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: site
  properties: {
    workspaceId: workspace.id
    logs: [
      {
        category: 'AppServiceConsoleLogs'
        enabled: true
      }
      {
        category: 'AppServicePlatformLogs'
        enabled: true
      }
      {
        category: 'AppServiceHTTPLogs'
        enabled: true
      }
    ]
    metrics: [
      {
        category: 'AllMetrics'
        enabled: true
      }
    ]
  }
}

@description('How many containers every instance must have. deploy.sh counts them.')
output containerCount int = isSidecar ? 2 : 1

output url string = 'https://${site.properties.defaultHostName}'

@description('For sitecontainers.json.')
output identityClientId string = identity.properties.clientId
